"""What the board shows: pure functions of objects, viewer and time compute all texts and positions."""
