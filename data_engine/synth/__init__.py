"""Tasks made from photographs, as ordinary sources; those about digits are in `data_engine.synthesis`."""
