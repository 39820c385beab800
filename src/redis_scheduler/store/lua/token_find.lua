-- token_find: find tokens with rights by their ids, and note the use of those that were seen to be genuine.
-- KEYS   tokens token_uses
-- ARGV   use_ms# (a use is noted so long after the last one)
-- each   token_id is_used# (1: note that it is in use)
-- Returns Redis' ms, then for each id the token's text, '' for none.
-- Bounds 200 ids a call, two to four commands each.
-- Twice  the same is noted again.
-- Full   a use is not noted then; it is found all the same.
--- include clock
--- names

local now = now_ms(math.floor)
local answer = {now}
for at = first, #ARGV, width do
  --- row
  local token = redis.call('HGET', tokens, token_id)
  answer[#answer + 1] = token or ''
  if token and is_used == 1 then
    -- A foreign key in its place keeps nobody out.
    local used_ms = redis.pcall('HGET', token_uses, token_id)
    local last_ms = type(used_ms) == 'string' and tonumber(used_ms) or 0
    if last_ms + use_ms <= now then
      redis.pcall('HSET', token_uses, token_id, string.format('%.0f', now))
    end
  end
end
return answer
