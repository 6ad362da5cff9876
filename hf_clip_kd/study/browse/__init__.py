"""A page on which the answers of several models stand side by side: its questions, its pictures, its text."""
