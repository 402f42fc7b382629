"""The leaderboard: every contender over every trace of a directory, and the document of how it came out.

`make leaderboard TRACES=DIR`. Each cell is a `minwatt backtest`; its inputs are kept beside its result.
"""
