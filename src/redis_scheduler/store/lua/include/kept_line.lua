-- Keeps whose line it is, and until when its rate is used up; to be included after `lines`.
local function keep_line(lines, number, used_ms, limit)
  redis.call('HSET', lines, string.format('%.0f', number), string.format('%.3f ', used_ms) .. limit)
end
