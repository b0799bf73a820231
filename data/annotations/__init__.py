"""From lists to videos: label csvs, published lists, and the folders on the disk."""
