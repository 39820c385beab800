-- retry: record a failed attempt and park its entry under the consumer `waiting`, idle so long that XAUTOCLAIM may take
-- it exactly when the delay is over. The window carries the delay, since Redis clamps a time in the future.
-- KEYS   queue entries failures counters sweep bell
-- ARGV   group consumer waiting window_ms# most# (that may wait) interval_ms# (of sweeps while anything waits)
--        ring_below_ms# (for a task that comes again sooner the bell calls for a look: workers look seldom at each of
--        many shards; 0: for none, since they look every second) clock_set_least_ms# (it was set back by as much)
-- each   id (of the entry) key attempts# (seen at the claim) delay_ms# (at most the window) failure (JSON)
-- Returns per task 1 parked, 0 fenced, 2 too many wait already: nothing done, defer it.
-- Bounds 200 tasks a call, some six commands each; once the clock was set back, what waits: 1,000.
-- Twice  the recorded attempts have moved and the owner is another: 0.
-- Full   XCLAIM or HDEL is the first write.
--- include clock fence fields foreign clock_set look_soon
--- names
local now = now_ms(math.floor)
local clock_ms, kept_ms = notice_clock_set(queue, group, waiting, window_ms, sweep, now, clock_set_least_ms, entries,
  failures)
local longest_ms, shortest_ms = kept_ms, math.huge

local waiting_count = 0
for _, row in ipairs(redis.call('XPENDING', queue, group)[4] or {}) do
  if row[1] == waiting then
    waiting_count = tonumber(row[2])
  end
end

local answer, parked = {}, 0
for at = first, #ARGV, width do
  --- row
  if not holds(queue, entries, failures, group, consumer, id, key, attempts) then
    answer[#answer + 1] = 0
  elseif waiting_count + parked >= most then
    answer[#answer + 1] = 2
  else
    -- RETRYCOUNT 0: the delivery count of an entry is the claims since the last outcome.
    redis.call('XCLAIM', queue, group, waiting, 0, id, 'IDLE', window_ms - delay_ms, 'RETRYCOUNT', 0, 'JUSTID')
    redis.call('HSET', failures, key, (attempts + 1) .. ' ' .. failure)
    parked = parked + 1
    longest_ms, shortest_ms = math.max(longest_ms, delay_ms), math.min(shortest_ms, delay_ms)
    answer[#answer + 1] = 1
  end
end
if parked > 0 then
  add_to_counter(counters, 'failed', parked)
  redis.call('HSET', sweep, 'clock_ms', clock_ms)
  if longest_ms > kept_ms then
    redis.call('HSET', sweep, 'parked_ms', longest_ms)
  end
  local next_ms = number_of(redis.call('HGET', sweep, 'next_ms'))
  look_soon(sweep, bell, next_ms, now, now + interval_ms, interval_ms, shortest_ms < ring_below_ms)
end
return answer
