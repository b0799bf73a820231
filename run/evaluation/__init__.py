"""What `run.evaluate` computes, writes and draws.

protocol           how clips are taken from the videos, and the name of the result folder
frame_orders       clips with their frames in another order: the time probe
video_scores       the network's answers to the videos of a dataset
accuracy_by_views  the accuracy with fewer views and crops
class_scores       accuracy and F1 of each class, means over the classes, intervals
predictions_csv    predictions.csv: one row for each video
mistakes           the most confidently wrong predictions as film strips
pictures           confusion matrix, accuracy by views, time probe
result_card        card.json and card.md: what was scored, how, and the scores
result_folder      a folder for each protocol, written as a whole
evaluation         evaluate a checkpoint: all of the above
"""
