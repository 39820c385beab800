-- What is deferred comes after a delay: for a retry, a slot, an acknowledgement that may fail to come, or at once. All
-- else comes at the time in its record, which its client was told. Once Redis' clock was set back, the rewind brings
-- forward what was deferred before and leaves what was deferred since. Their times tell them apart. To be included
-- after `foreign`.
-- Returns two functions: the first makes the time of one task, at most 2 ms later than asked for; the second keeps the
-- longest delay, so that the rewind knows where to end, and is to be called behind a write.
--- include steps
local function deferral(sweep, now)
  local state = redis.call('HMGET', sweep, 'clock_ms', 'set_back_times', 'deferred_ms')
  -- A sweep may be about to notice that the clock was set back.
  local times = number_of(state[2]) + (number_of(state[1]) > now and 1 or 0)
  local kept_ms = number_of(state[3])
  local longest_ms = kept_ms
  local function deferred_until(until_ms)
    longest_ms = math.max(longest_ms, until_ms - now)
    return of_now(until_ms, times)
  end
  local function keep_longest()
    if longest_ms > kept_ms then
      redis.call('HSET', sweep, 'deferred_ms', string.format('%.0f', longest_ms))
    end
  end
  return deferred_until, keep_longest
end
