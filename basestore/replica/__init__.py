"""The one door to local data, and what is kept beside it; it knows no levels, and asks no other replica."""
