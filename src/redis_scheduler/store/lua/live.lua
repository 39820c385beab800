-- live: which workers have said that they live, and which have not said so for a while. Reads only.
-- KEYS   workers
-- ARGV   seen_ms# (that this counts for) most# (workers)
-- Returns the names of both, with 1 or 0 behind each.
-- Bounds `most` workers.
--- include clock
--- names
local since, answer = now_ms(math.floor) - seen_ms, {}
local rows = redis.call('ZRANGE', workers, -most, -1, 'WITHSCORES')
for at = 1, #rows, 2 do
  answer[#answer + 1] = rows[at]
  answer[#answer + 1] = tonumber(rows[at + 1]) >= since and 1 or 0
end
return answer
