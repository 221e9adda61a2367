"""The demo of editors, `mmrl demo edit`: its data, its warm checkpoint and how that is made, its page."""
