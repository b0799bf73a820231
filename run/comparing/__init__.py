"""What `run.compare` computes, writes and draws.

evaluations       find and read the results of `run.evaluate`
configurations    runs of one configuration, and whether all are about the same videos
paired_bootstrap  the difference of two configurations, with its intervals
class_changes     which classes gain and lose
comparison        compare all pairs of configurations
comparison_files  tables as csv and Markdown
pictures          accuracies, differences and classes as pictures
"""
