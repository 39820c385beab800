-- read: where tasks stand, and all that is kept of them, at one moment. Reads only. (A full Redis would refuse a
-- MULTI.)
-- KEYS   tasks failures entries due dead paused awaiting held queue pause_all
-- ARGV   group room# (bytes of records and failures to read; the first are read whatever they are) most# (bytes of a
--        record that is read) task_keys...
-- Returns {now ms, since when all is paused (false: it is not), then for each task: record (of a larger one how many
--        bytes it has), failure, due ms, died ms, id of its entry, owner of the pending entry, its idle ms, its score
--        if it is paused (pause.lua), ms until which an acknowledgement is awaited, its score if it is held}; false for
--        what is not there. Fewer tasks than asked for: ask again for the rest.
-- Bounds the room, a record and a failure; six more look-ups a task, nine if it is paused, awaiting or held.
--- include clock
--- names

local since = redis.pcall('GET', pause_all)
local answer = {now_ms(math.floor), type(since) == 'string' and since}
for at = first, #ARGV do
  local key = ARGV[at]
  local size = redis.call('HSTRLEN', tasks, key)
  local is_read = size <= most
  room = room - (is_read and size or 0)
  if room < 0 and at > first then
    break
  end
  local id = redis.call('HGET', entries, key)
  local found = id and redis.pcall('XPENDING', queue, group, id, id, 1) or {}
  if found.err and not string.find(found.err, 'Invalid stream ID', 1, true) then
    return found
  end
  local pending = found[1] or {}  -- no id: foreign hands wrote it, and the task stands in no entry
  local row = {
    not is_read and size or redis.call('HGET', tasks, key), redis.call('HGET', failures, key),
    redis.call('ZSCORE', due, key), redis.call('ZSCORE', dead, key),
    id, pending[2] or false, pending[3] or false, false, false, false,
  }
  if not (id or row[3] or row[4]) then
    row[8] = redis.call('ZSCORE', paused, key)
    row[9] = redis.call('ZSCORE', awaiting, key)
    row[10] = not (row[8] or row[9]) and redis.call('ZSCORE', held, key)
  end
  room = room - (row[2] and #row[2] or 0)
  for column = 1, 10 do
    answer[#answer + 1] = row[column]
  end
end
return answer
