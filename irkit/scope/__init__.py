"""What a compromised container can reach, and what ``irkit contain`` does about it.  Reads only; changes nothing."""
