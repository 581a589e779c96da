"""The loops beside the data path: probing backends, observing demand, planning again."""
