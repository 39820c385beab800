-- token_write: make, change or delete a token with rights, unless somebody else was first.
-- KEYS   tokens token_uses
-- ARGV   token_id expected (its text as it was read; '' if there was none) changed (its new text; '' deletes it)
--        most# (tokens)
-- Returns done, changed if another text is kept, full if there are as many as there may be.
-- Bounds one token.
-- Twice  what is kept is the new text already: done.
-- Full   a deletion begins with a removal; what grows is refused, and nothing is written.
--- names

local kept = redis.call('HGET', tokens, token_id) or ''
if kept == changed then
  return 'done'
end
if kept ~= expected then
  return 'changed'
end
if changed == '' then
  redis.call('HDEL', tokens, token_id)
  redis.pcall('HDEL', token_uses, token_id)
  return 'done'
end
if kept == '' and redis.call('HLEN', tokens) >= most then
  return 'full'
end
redis.call('HSET', tokens, token_id, changed)
return 'done'
