"""Pictures with annotated objects, from the files of several programs."""
