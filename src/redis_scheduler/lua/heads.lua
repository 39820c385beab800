-- heads: read what stands in records before `data`, of the tasks named or of the next ones of a scan: `data` may be large,
-- and a scan brings whole buckets, some more than it is asked for. Reads only; what is cut off is not decoded.
-- KEYS   tasks
-- ARGV   most bytes of a head, cursor and count of a scan ('' '' for none), task keys
-- Returns {next cursor, then per task: key, head as a record without data, bytes of the record}; false where there is none.
local tasks = KEYS[1]
local most, cursor, count = tonumber(ARGV[1]), ARGV[2], ARGV[3]

local answer = {cursor}
local function add(key, record)
  answer[#answer + 1] = key
  if record then
    local data = string.find(record, ',"data":', 1, true)
    answer[#answer + 1] = string.sub(data and string.sub(record, 1, data - 1) .. '}' or record, 1, most)
  else
    answer[#answer + 1] = false
  end
  answer[#answer + 1] = record and #record or 0
end

if cursor ~= '' then
  local page = redis.call('HSCAN', tasks, cursor, 'COUNT', count)
  answer[1] = page[1]
  for i = 1, #page[2], 2 do
    add(page[2][i], page[2][i + 1])
  end
end
for i = 4, #ARGV do
  add(ARGV[i], redis.call('HGET', tasks, ARGV[i]))
end
return answer
