"""Interactions of users and items, in any format, to one form."""
