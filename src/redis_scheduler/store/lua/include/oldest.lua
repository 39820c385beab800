-- For how many ms the first task has been due that no worker has claimed, 0 if none is; and when the first of `due` is,
-- nil if there is none. A claimed entry is gone once its outcome is written: so the first that was never claimed is
-- behind the last that is pending (false: none is). Its id tells when it was promoted.
local function oldest_due(due, queue, last_pending, now)
  local head, never_claimed = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES'),
    redis.call('XRANGE', queue, last_pending and '(' .. last_pending or '-', '+', 'COUNT', 1)[1]
  local since = math.min(tonumber(head[2]) or now, never_claimed and tonumber(never_claimed[1]:match('^%d+')) or now)
  return math.max(0, math.min(now - since, 1e15)), head[2]
end
