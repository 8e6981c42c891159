"""Messages between coroutines: mailboxes, credit-based flow control, delivery."""
