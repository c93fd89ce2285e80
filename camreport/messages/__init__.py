"""Messages are codes with values; one table words them in every language."""

from camreport.messages.message import Message, message

__all__ = ["Message", "message"]
