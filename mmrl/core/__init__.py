"""What every part stands on: configs, the vision budget, boxes, media, files, and pages. Nothing of ours lies below."""
