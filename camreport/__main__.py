"""``python -m camreport``."""

from camreport.cli import main

main()
