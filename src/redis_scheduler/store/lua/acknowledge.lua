-- acknowledge: note what the receiver says of an attempt that it took on: the task is done, it has failed, or it goes
-- on. A task that awaits it is queued, so that a worker writes its end; one whose attempt is still under way keeps it.
-- While all is paused no worker could, so only that it goes on is noted.
-- KEYS   writer tasks queue entries failures awaiting sweep pause_all
-- ARGV   batch# expiry_s group waiting
-- each   key id (of the entry of the attempt) attempts# (failed before it) sign ('+' done, '-' failed, '' goes on)
--        within_ms (from now on, that it may go on)
-- Returns per task one code: A noted, O it is another attempt, or the other was said, N not found, P all is paused.
-- Bounds 200 tasks a call, some ten commands each.
-- Twice  the writer's batch number: a resend answers as the first did.
-- Full   XDEL of nothing is the first write.
--- include clock writer foreign ours queued_from place marks deferral
--- names
local answer = applied(writer, batch)
if answer then
  return answer
end
-- Without the group, or with a foreign key in one of their places, this fails here, before any write.
redis.call('XPENDING', queue, group, '-', '+', 1)
refuse_foreign({tasks, entries, failures}, {awaiting})
local is_all_paused = redis.call('GET', pause_all)
local now = now_ms(math.ceil)
local deferred_until = deferral(sweep, now)
redis.call('XDEL', queue, '0-0')

local function is_under_way(key, id)
  local pending = redis.call('HGET', entries, key) == id and pending_of(queue, group, id)
  return pending and pending[2] ~= waiting
end

local codes = {}
for at = first, #ARGV, width do
  --- row
  local count, mark, rest = parts_of(redis.call('HGET', failures, key))
  local wanted, code = '@' .. id, 'A'
  if redis.call('HEXISTS', tasks, key) == 0 then
    code = 'N'
  elseif tonumber(count) ~= attempts then
    code = 'O'
  elseif sign ~= '' and mark == wanted .. sign then
    code = 'A'  -- it was said before
  elseif mark == wanted and redis.call('ZSCORE', awaiting, key) then
    if sign ~= '' and is_all_paused then
      code = 'P'
    elseif sign == '' then
      redis.call('ZADD', awaiting, deferred_until(now + within_ms), key)
    else
      local failed = queue_from(awaiting, queue, entries, key)
      if failed then
        return failed
      end
      redis.call('HSET', failures, key, count .. wanted .. sign .. rest)
    end
  elseif mark == '' and is_under_way(key, id) then
    if sign ~= '' and is_all_paused then
      code = 'P'
    elseif sign ~= '' then
      redis.call('HSET', failures, key, count .. wanted .. sign .. rest)
    end
  else
    code = 'O'
  end
  codes[#codes + 1] = code
end
answer = table.concat(codes)
remember(writer, batch, answer, expiry_s)
return answer
