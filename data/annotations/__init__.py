"""Which videos there are, and of which class: label csvs, splits, and folders on the disk.

label_csv            read one label csv
label_csv_writer     write label csvs
class_names          spellings of class names, their numbers, `dictionary.json`
list_licences        where the published lists come from, and under which licence
published_lists      read the official lists of the datasets and the lists of other frameworks
splits               find the label csv of a split and open its videos
video_tree           find the videos in a tree of folders
tree_labels          label the videos of a tree of folders
own_labels           write the label csvs of the user's own videos
validation_split     divide videos into training and validation, by source
video_folders        find the folder of each row's video
segments             rows that are parts of a longer video
duplicate_videos     warn of videos that labels name more than once
near_duplicates      find videos that show the same pictures, also after they were encoded anew
video_sources        which recording a video was cut from, by its name
dataset_fingerprint  tell whether two runs have the same dataset
"""
