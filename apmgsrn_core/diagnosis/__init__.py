"""What a problem's report needs to know of the place where it happened, and the fix of each problem that is found."""
