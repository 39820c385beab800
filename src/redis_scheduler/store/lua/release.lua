-- release: give back claims that will not be delivered here; any worker may take them at once. Burns no attempt.
-- KEYS   queue entries failures sweep bell
-- ARGV   group consumer waiting window_ms interval_ms# (of sweeps while anything waits) ring_below_ms# (as of retry)
-- each   id (of the entry) key attempts# (seen at the claim)
-- Returns per task 1 released, 0 fenced.
-- Bounds 200 tasks a call, some six commands each.
-- Twice  the owner is another: 0.
-- Full   XCLAIM is the first write.
--- include clock fence foreign look_soon
--- names

-- Read before any write, since a foreign key may refuse it.
local next_ms = number_of(redis.call('HGET', sweep, 'next_ms'))
local answer, released = {}, 0
for at = first, #ARGV, width do
  --- row
  local is_held = holds(queue, entries, failures, group, consumer, id, key, attempts)
  if is_held then
    redis.call('XCLAIM', queue, group, waiting, 0, id, 'IDLE', window_ms, 'RETRYCOUNT', 0, 'JUSTID')
    released = released + 1
  end
  answer[#answer + 1] = is_held and 1 or 0
end
if released > 0 then
  local now = now_ms(math.floor)
  look_soon(sweep, bell, next_ms, now, now, interval_ms, ring_below_ms > 0)
end
return answer
