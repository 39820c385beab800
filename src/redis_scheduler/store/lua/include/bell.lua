-- The bell wakes the timers when a task is due before all others. Read the head first, ring after the write. If the
-- user may not ring it, looks at the shard tell, each second, over N > 2 shards each N/2 s; the script goes on.
local function head_ms(due)
  local head = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  return head[2] and tonumber(head[2]) or math.huge
end

local function ring(bell, head_before_ms, earliest_ms)
  if earliest_ms < head_before_ms then
    redis.pcall('PUBLISH', bell, '')
  end
end
