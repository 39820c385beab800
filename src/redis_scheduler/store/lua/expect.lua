-- expect: let tasks wait for an acknowledgement, out of the queue. Where the receiver gave it before this call, the
-- task is queued anew: whoever claims it writes its end.
-- KEYS   queue entries failures awaiting sweep bell
-- ARGV   group consumer look_interval_ms# (the longest between two looks: later than that needs none of its own)
--        interval_ms# (of sweeps while anything waits) ring_below_ms# (as of retry)
-- each   id (of the entry) key attempts# (seen at the claim) delay_ms (until it has failed)
-- Returns per task 1 awaiting or queued anew, 0 fenced.
-- Bounds 200 tasks a call, some eight commands each.
-- Twice  the entry is gone: 0.
-- Full   where it refuses what grows, XDEL of nothing is the first write.
--- include clock fence foreign marks deferral look_soon
--- names
local now = now_ms(math.ceil)
local deferred_until = deferral(sweep, now)

local answer, earliest_ms = {}, math.huge
for at = first, #ARGV, width do
  --- row
  local is_held = holds(queue, entries, failures, group, consumer, id, key, attempts)
  if is_held then
    local due_ms = deferred_until(now + delay_ms)
    local count, mark, rest = parts_of(redis.call('HGET', failures, key))
    local is_answered = mark == '@' .. id .. '+' or mark == '@' .. id .. '-'
    -- Before what is taken out, since a foreign key may refuse it.
    local placed = is_answered and write_growing(queue, 'XADD', queue, '*', 'key', key)
      or not is_answered and write_growing(queue, 'ZADD', awaiting, due_ms, key)
    if type(placed) == 'table' then
      return placed
    end
    redis.call('XACK', queue, group, id)
    redis.call('XDEL', queue, id)
    if is_answered then
      redis.call('HSET', entries, key, placed)
    else
      redis.call('HDEL', entries, key)
      redis.call('HSET', failures, key, count .. '@' .. id .. rest)
      earliest_ms = math.min(earliest_ms, due_ms)
    end
  end
  answer[#answer + 1] = is_held and 1 or 0
end
if earliest_ms < now + look_interval_ms then
  local next_ms = number_of(redis.call('HGET', sweep, 'next_ms'))
  look_soon(sweep, bell, next_ms, now, earliest_ms, interval_ms, earliest_ms < now + ring_below_ms)
end
return answer
