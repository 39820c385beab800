"""What the tests share: real servers, real processes, a real receiver, and waits for conditions."""
