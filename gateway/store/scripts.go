package store

import (
	"context"
	_ "embed"

	"github.com/redis/go-redis/v9"
)

// The scripts are called by their hash; Run sends the text only to a Redis
// that does not know it yet. Each but redeem may run twice for one call, when
// the first answer was lost, and then answers the same, but for limits: a jump
// counts twice then.
var (
	//go:embed rate.lua
	rateLua string // a function for those that follow
	//go:embed mint.lua
	mintLua string
	//go:embed spend.lua
	spendLua string
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

	//go:embed redeem.lua
	redeemLua string
	//go:embed extend.lua
	extendLua string
	//go:embed endpeers.lua
	endPeersLua string
	//go:embed told.lua
	toldLua string

	//go:embed ours.lua
	oursLua string // functions for those that follow
	//go:embed land.lua
	landLua string
	//go:embed visit.lua
	visitLua string
	//go:embed visits.lua
	visitsLua string
	//go:embed hold.lua
	holdLua string
	//go:embed letgo.lua
	letGoLua string
	//go:embed endvisit.lua
	endVisitLua string
	//go:embed renew.lua
	renewLua string
	//go:embed turn.lua
	turnLua string
	//go:embed claimmail.lua
	claimMailLua string

	scriptMint     = redis.NewScript(rateLua + mintLua)
	scriptSpend    = redis.NewScript(rateLua + spendLua)
	scriptSave     = redis.NewScript(rateLua + saveLua)
	scriptClaim    = redis.NewScript(rateLua + claimLua)
	scriptEnd      = redis.NewScript(endLua)
	scriptRedeem   = redis.NewScript(redeemLua)
	scriptExtend   = redis.NewScript(extendLua)
	scriptEndPeers = redis.NewScript(endPeersLua)
	scriptTold     = redis.NewScript(toldLua)

	scriptLand     = redis.NewScript(landLua)
	scriptVisit    = redis.NewScript(oursLua + visitLua)
	scriptVisits   = redis.NewScript(oursLua + visitsLua)
	scriptHold     = redis.NewScript(holdLua)
	scriptLetGo    = redis.NewScript(letGoLua)
	scriptEndVisit = redis.NewScript(endVisitLua)
	scriptRenew    = redis.NewScript(oursLua + renewLua)
	scriptTurn     = redis.NewScript(turnLua)

	scriptClaimMail = redis.NewScript(claimMailLua)

	scriptKey       = redis.NewScript(keyLua)
	scriptChangeKey = redis.NewScript(changeKeyLua)
	scriptRequest   = redis.NewScript(requestLua)
)

// runOnce is Script.Run for a script that must not run twice for one call.
func (r *Redis) runOnce(ctx context.Context, script *redis.Script, text string, keys []string, args ...any) ([]any, error) {
	run := func(name, what string) ([]any, error) {
		command := []any{name, what, len(keys)}
		for _, key := range keys {
			command = append(command, key)
		}
		cmd := redis.NewCmd(ctx, append(command, args...)...)
		_ = r.client.Process(ctx, once{cmd})
		return cmd.Slice()
	}
	answer, err := run("evalsha", script.Hash())
	if redis.HasErrorPrefix(err, "NOSCRIPT") { // it did not run
		return run("eval", text)
	}
	return answer, err
}
