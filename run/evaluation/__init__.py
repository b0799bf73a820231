"""What `run.evaluate` computes, writes and draws.

protocol           how clips are taken from the videos, and the name of the result folder
frame_orders       clips with their frames in another order: the time probe
video_scores       the network's answers to the videos of a dataset
accuracy_by_views  the accuracy with fewer views and crops
class_scores       accuracy and F1 of each class, means over the classes, intervals
predictions_csv    predictions.csv: one row for each video
mistakes           the most confidently wrong predictions as film strips
pictures           confusion matrix, accuracy by views, time probe
results            all that an evaluation has found
result_card        card.json: what was scored, how, and the scores
card_page          the same as a page to read, card.md
result_files       write all files of an evaluation
result_folder      a folder for each protocol, written as a whole
evaluation         evaluate a checkpoint: score, write and print
"""
