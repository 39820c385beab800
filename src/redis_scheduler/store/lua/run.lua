-- run: make tasks due now, or after a delay if they are not due before, also paused ones; failed attempts stay, and so
-- does the due time in the record. What is in delivery stays so, and what is dead. A worker that lost its lease may
-- still deliver what waits for a retry.
-- KEYS   writer (of a step its operation) tasks due queue entries failures dead paused awaiting held sweep bell
-- ARGV   batch# expiry_s note (include/writer.lua) group waiting window_ms#
-- each   key delay_ms (below 0: due_after.lua) expected (the record that it must have; '' for any) is_series# (1: it is
--        told by a mark to make an occurrence more, also where it is queued)
-- Returns per task one code, where it stood: S scheduled, F deferred, W waiting, P paused, L lost: it is due then; Q
--        queued, H held: it was; D in delivery, A awaiting, X dead, C another record than expected, N not found, R a
--        series that was told before, and has not made that one: nothing was done.
-- Bounds 200 tasks a call, some ten commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   ZREM of nothing is the first write.
--- include clock due_after bell writer foreign ours place marks standing deferral
--- names
local answer = applied(writer, batch, note)
if answer then
  return answer
end
local look = standing_of(tasks, entries, queue, group, waiting, due, failures, paused, awaiting, held, dead)
local now, head_before_ms, earliest_ms = now_ms(math.ceil), head_ms(due), math.huge
local deferred_until, keep_longest = deferral(sweep, now)

redis.call('ZREM', due, '')
local codes = {}
for at = first, #ARGV, width do
  --- row
  local code, comes, id = look(key, expected)
  if is_series == 1 and string.find('SFQWPL', code, 1, true) and not tell_to_run(failures, key) then
    code = 'R'
  end
  if string.find('SFWPL', code, 1, true) then
    redis.call('ZREM', paused, key)
    -- What comes before keeps its time, also what is due already. What is paused, and its time over, has none.
    local due_ms = due_after(now, delay_ms)
    if code == 'W' then
      due_ms = math.min(due_ms, now + math.max(0, window_ms - comes))
    elseif code == 'P' and comes < 0 then
      due_ms = math.min(due_ms, now - comes)
    end
    due_ms = code == 'P' and comes > now and comes <= due_ms and comes or deferred_until(due_ms)
    redis.call('ZADD', due, 'LT', due_ms, key)
    if id then
      leave_queue(queue, group, entries, key, id)
    end
    earliest_ms = math.min(earliest_ms, due_ms)
  end
  codes[#codes + 1] = code
end
keep_longest()
ring(bell, head_before_ms, earliest_ms)
return remember(writer, batch, table.concat(codes), expiry_s, note)
