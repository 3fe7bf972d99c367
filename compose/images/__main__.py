"""Build the platform's images: `python compose/images FLAVOUR`; stackyard runs it when an image is missing."""

import sys

from image_builder.program import main

sys.exit(main(sys.argv[1:]))
