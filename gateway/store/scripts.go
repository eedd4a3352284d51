package store

import (
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// The scripts are called by their hash; Run sends the text only to a Redis
// that does not know it yet. Each may run twice for one call, when the first
// answer was lost, and then answers the same.
var (
	//go:embed save.lua
	saveLua string
	//go:embed claim.lua
	claimLua string
	//go:embed end.lua
	endLua string
	//go:embed key.lua
	keyLua string
	//go:embed changekey.lua
	changeKeyLua string
	//go:embed request.lua
	requestLua string

	scriptSave  = redis.NewScript(saveLua)
	scriptClaim = redis.NewScript(claimLua)
	scriptEnd   = redis.NewScript(endLua)

	scriptKey       = redis.NewScript(keyLua)
	scriptChangeKey = redis.NewScript(changeKeyLua)
	scriptRequest   = redis.NewScript(requestLua)
)
