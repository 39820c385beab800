-- pause: take tasks out of their way until they are resumed, with what tells when they come then; failed attempts stay.
-- What is in delivery stays so, and what is dead. What waits for a retry may still be delivered by a worker that lost
-- its lease.
-- KEYS   writer (of a step its operation) tasks due queue entries failures dead paused awaiting held
-- ARGV   batch# expiry_s note (include/writer.lua) group waiting window_ms#
-- each   key expected (the record that it must have; '' for any)
-- Returns per task one code, where it stood: S scheduled, F deferred, Q queued, W waiting, H held, L lost: it is paused
--        now; P paused, D in delivery, A awaiting, X dead, C another record than expected, N not found: nothing was
--        done.
-- Bounds 200 tasks a call, some ten commands each; reads the record of one that is due or lost.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   ZREM of nothing is the first write.
--- include clock writer ours place marks standing
--- names
local answer = applied(writer, batch, note)
if answer then
  return answer
end
local look = standing_of(tasks, entries, queue, group, waiting, due, failures, paused, awaiting, held, dead)
local now = now_ms(math.ceil)

-- The task's own time, which the script that wrote the record has put in front.
local function own_ms(key)
  return tonumber(string.match(redis.call('HGET', tasks, key), '^{"due":(%d+)'))
end

redis.call('ZREM', due, '')
local codes = {}
for at = first, #ARGV, width do
  --- row
  local code, comes, id = look(key, expected)
  -- At a time, after the rest of a delay (below 0), or at once (0: it was due).
  local score = 0
  if code == 'S' and comes == own_ms(key) then
    score = comes
  elseif code == 'S' or code == 'F' then
    score = math.min(0, now - comes)
  elseif code == 'W' then
    score = math.min(0, comes - window_ms)
  elseif code == 'L' then
    -- As the audit would have put it back.
    score = own_ms(key) or 0
  end
  if string.find('SFQWHL', code, 1, true) then
    redis.call('ZREM', due, key)
    if code == 'H' then
      redis.call('ZREM', held, key)
    end
    redis.call('ZADD', paused, score, key)
    if id then
      leave_queue(queue, group, entries, key, id)
    end
  end
  codes[#codes + 1] = code
end
return remember(writer, batch, table.concat(codes), expiry_s, note)
