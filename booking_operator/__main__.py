"""`python -m booking_operator` is the console script `booking-operator`."""

from booking_operator.cli import main

if __name__ == "__main__":
    main()
