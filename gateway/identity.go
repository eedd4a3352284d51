package gateway

// User holds the fields of a Moodle user record that MNet may send to a peer
// (protocol page, section 6). Numbers that Moodle sends as strings stay
// strings: they travel unchanged.
type User struct {
	ID          int64  `json:"id"` // 0 for an account that is not Moodle's but a login provider's
	Username    string `json:"username"`
	FirstName   string `json:"firstname"`
	LastName    string `json:"lastname"`
	Email       string `json:"email"`
	Auth        string `json:"auth,omitempty"`
	City        string `json:"city,omitempty"`
	Country     string `json:"country,omitempty"`
	Lang        string `json:"lang,omitempty"`
	Timezone    string `json:"timezone,omitempty"`
	MailFormat  string `json:"mailformat,omitempty"`
	MailDigest  string `json:"maildigest,omitempty"`
	MailDisplay string `json:"maildisplay,omitempty"`
	Picture     string `json:"picture,omitempty"`
	Description string `json:"description,omitempty"`
	MnetHostID  int64  `json:"mnethostid"`
	Suspended   bool   `json:"suspended,omitempty"`
	Deleted     bool   `json:"deleted,omitempty"`
}

// Identity says who a browser's Moodle session belongs to. The zero Identity
// is nobody: no session, a dead one, or one that is not logged in.
type Identity struct {
	User       User
	Remote     bool // the account lives at another MNet host (is_mnet_remote_user)
	Guest      bool // Moodle's shared guest account
	LoginAs    bool // an administrator wearing somebody else's account
	MFAPending bool // tool_mfa still waits for a factor

	// PasswordDue says that Moodle lets the user do nothing before a new
	// password is chosen.
	PasswordDue bool
}

// LoggedIn reports whether the session's login is complete: a real account,
// with all its factors and a password that may stay. Only then, or when a login
// provider vouches for the user, may Standing be asked.
func (id Identity) LoggedIn() bool {
	return id.User.ID > 0 && !id.Guest && !id.Pending()
}

// Pending reports whether the login has begun and lacks something: the session
// will be its user's without being changed.
func (id Identity) Pending() bool { return id.MFAPending || id.PasswordDue }

// Standing returns the rule that forbids a logged-in user to jump, or RuleOK.
func (id Identity) Standing() Rule {
	switch {
	case id.User.Deleted:
		return RuleUserDeleted
	case id.User.Suspended:
		return RuleUserSuspended
	case id.LoginAs:
		return RuleUserLoginAs
	case id.Remote:
		return RuleUserRemote
	case id.User.Username == "" || id.User.FirstName == "" || id.User.LastName == "" || id.User.Email == "":
		return RuleUserIncomplete
	}
	return RuleOK
}
