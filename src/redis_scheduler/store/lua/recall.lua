-- recall: read the summaries of finished tasks, of each the newest if there are several. Reads only.
-- KEYS   results segment...
-- ARGV   task_keys...
-- Returns for each the summary; false if none is kept.
-- Bounds 200 keys, a look-up of all of them in each of the 16 segments, and one.
--- names

local text = redis.pcall('HGET', results, 'number')
local number = type(text) == 'string' and tonumber(text) or 0
if not (number >= 0 and number < 1e15) then  -- foreign hands wrote it
  number = 0
end
local task_keys, answer = {unpack(ARGV, first)}, {}
local missing = #task_keys
for at = 1, #task_keys do
  answer[at] = false
end
for age = 0, 15 do
  local found = redis.pcall('HMGET', segment_of((number - age) % 16), unpack(task_keys))
  for at = 1, #answer do
    if not answer[at] and found[at] then
      answer[at], missing = found[at], missing - 1
    end
  end
  if missing == 0 then
    break
  end
end
return answer
