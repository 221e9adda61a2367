"""How answers are read out of text: letters, numbers, boxes, spans, labelled objects."""
