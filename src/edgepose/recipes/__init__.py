"""Recipes: one file a network, RECIPES maps the rest of the model's name to a `Recipe`."""
