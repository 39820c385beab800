-- heads: read the parts of records before `data`, of the named tasks or of the next ones of a scan: `data` may be
-- large, and a scan brings whole buckets, a few more than it is asked for. Reads only; nothing is decoded: a record
-- with options says in front how long its head is.
-- KEYS   tasks
-- ARGV   most# (bytes of a head) room# (bytes of records that are named) cursor count (of a scan; '' '' for none)
--        task_keys...
-- Returns {next cursor, then per task: key, head as a record without data, bytes of the record}. The head is false
--        where there is no record (its bytes are 0), and where the record is larger than what is left of the room.
-- Bounds `room` bytes of the records that are named. A scan reads its count and the rest of the last bucket, whatever
--        their sizes: callers give a smaller count for large records.
--- names

local answer = {cursor}
local function add(key, record, size)
  answer[#answer + 1] = key
  if record then
    local _, front, length = string.find(record, '^{"due":%d+,"head":(%d+)')
    local data = length and front + length + 1 or string.find(record, ',"data":', 1, true)
    answer[#answer + 1] = string.sub(data and string.sub(record, 1, data - 1) .. '}' or record, 1, most)
  else
    answer[#answer + 1] = false
  end
  answer[#answer + 1] = size
end

if cursor ~= '' then
  local page = redis.call('HSCAN', tasks, cursor, 'COUNT', count)
  answer[1] = page[1]
  for i = 1, #page[2], 2 do
    add(page[2][i], page[2][i + 1], #page[2][i + 1])
  end
end
for at = first, #ARGV do
  local key = ARGV[at]
  local size = redis.call('HSTRLEN', tasks, key)
  local is_read = size <= room
  room = room - (is_read and size or 0)
  add(key, is_read and redis.call('HGET', tasks, key), size)
end
return answer
