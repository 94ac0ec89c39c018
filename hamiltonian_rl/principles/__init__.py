"""What an answer must satisfy: pure functions, no loops over data, no state. The paper on a few pages."""
