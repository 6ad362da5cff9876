"""Choice of a teacher: pilots of a student as stages of a study, and a ranking with its intervals."""
