"""Messages between coroutines: mailboxes, sending under credit, delivery."""
