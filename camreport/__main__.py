"""``python -m camreport``."""

from camreport.cli.commands import main

main()
