package main

type mnetCommand struct {
	Log mnetLogCommand `cmd:"" help:"Show what a peer reported that learners did there."`
}
