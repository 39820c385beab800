-- read: where tasks stand, and all that is kept of them, at one moment. Reads only; a MULTI would do as well, but a full
-- Redis refuses those.
-- KEYS   tasks, failures, entries, due, dead, queue
-- ARGV   group, then the task keys
-- Returns {now ms, then per task: record, failure, due ms, died ms, 1 if in the queue, owner of the pending entry, its idle ms};
--        false for what is not there.
--- include clock
local tasks, failures, entries, due, dead, queue = unpack(KEYS)
local group = ARGV[1]
local keys = {unpack(ARGV, 2)}

local records, last_failures = redis.call('HMGET', tasks, unpack(keys)), redis.call('HMGET', failures, unpack(keys))
local ids = redis.call('HMGET', entries, unpack(keys))
local due_ms, died_ms = redis.call('ZMSCORE', due, unpack(keys)), redis.call('ZMSCORE', dead, unpack(keys))
local answer = {now_ms(math.floor)}
for i = 1, #keys do
  local pending = ids[i] and redis.call('XPENDING', queue, group, ids[i], ids[i], 1)[1] or {}
  local row = {records[i], last_failures[i], due_ms[i], died_ms[i], ids[i] and 1 or false, pending[2] or false, pending[3] or false}
  for column = 1, 7 do
    answer[#answer + 1] = row[column]
  end
end
return answer
