"""The board: a web page that shows who has what until when, and books it."""
