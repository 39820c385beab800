-- Whether this is the id of a deployment. Anything else must not come into a header.
local function is_id(text)
  return #text == 32 and not text:find('[^0-9a-f]')
end
