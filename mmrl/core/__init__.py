"""Used by every part: configs, the vision budget, boxes, media, files, and pages. It imports nothing else of ours."""
