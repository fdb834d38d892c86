from datagen.gallery.cli import main

raise SystemExit(main())
