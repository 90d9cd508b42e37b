module tables

go 1.24.0

require (
	github.com/robfig/cron/v3 v3.0.1
	golang.org/x/net v0.44.0
)

require golang.org/x/text v0.29.0 // indirect
